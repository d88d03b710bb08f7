"""Clients of the Alibaba Cloud APIs: OSS Tables, SMQ, Function Compute and the RPC APIs."""
