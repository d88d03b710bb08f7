#!/usr/bin/env bash
# Expected: `-a` names the access to use (here a variable), so the command acts in its account.
# Happens:  AccountID, AccessKeyID and AccessKeySecret of a file `.env` beside the template count
#           before the option: the command acts in the account of the file.
# Version:  @serverless-devs/s 3.1.10
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
npm install --prefix "$folder" --ignore-scripts --no-audit --no-fund --silent '@serverless-devs/s@3.1.10' ||
    { echo 'cannot check: the packages could not be installed' >&2; exit 2; }

# Disable statistics and the check for a newer version.
mkdir -p "$folder/home/.s/config" "$folder/shop/component"
echo 'analysis: disable' >"$folder/home/.s/set-config.yml"
echo '{"lastUpdateCheck": 9999999999999}' >"$folder/home/.s/config/update-notifier.json"

cd "$folder/shop"
echo '{"name": "component", "version": "0.0.1", "main": "index.js"}' >component/package.json
echo 'module.exports.default = class {};' >component/index.js
cat >s.yaml <<'YAML'
edition: 3.0.0
name: shop
access: default
resources:
  website:
    component: ./component
    props: {region: cn-hangzhou, account: "${config('AccountID')}"}
YAML

# Print the account of the resolved template, with an access of the shell.
account() {
    env -i PATH="$PATH" HOME="$folder/home" serverless_devs_config_home="$folder/home" \
        staging_serverless_devs_key='{"AccountID": "1000000000000001", "AccessKeyID": "made-up-id", "AccessKeySecret": "made-up-secret"}' \
        "$folder/node_modules/.bin/s" preview -a staging_serverless_devs_key -o json --silent </dev/null |
        node -p 'JSON.parse(fs.readFileSync(0)).resources.website.props.account'
}

without=$(account)
cat >.env <<'DOTENV'
AccountID=2000000000000002
AccessKeyID=another-made-up-id
AccessKeySecret=another-made-up-secret
DOTENV
with=$(account)

echo "Serverless Devs $(node -p "require('$folder/node_modules/@serverless-devs/s/package.json').version")"
echo "the account without .env: $without"
echo "the account with .env:    $with"

[ "$without" = 1000000000000001 ] || { echo 'changed: the account is not that of the option' >&2; exit 1; }
[ "$with" = 2000000000000002 ] || { echo 'changed: .env does not replace the account' >&2; exit 1; }
