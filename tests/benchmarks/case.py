"""The one request that every client sends, and whose it is.

Nothing is imported here: a cold client pays for every module that it loads.
"""

REGION = "cn-hangzhou"
ACCOUNT_ID = "1234567890123456"
BUCKET = "my-table-bucket"
ARN = f"acs:osstables:{REGION}:{ACCOUNT_ID}:bucket/{BUCKET}"

# Temporary, as a function's role gives it; tokens of STS are about this long.
ACCESS_KEY_ID = "STS.BENCHMARK"
ACCESS_KEY_SECRET = "not-a-secret"
SECURITY_TOKEN = "CAIS" + "0123456789abcdef" * 40
