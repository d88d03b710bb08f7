#!/usr/bin/env bash
# Expected: the template gets a variable of the shell unchanged; `.env` is for variables that are
#           not set.
# Happens:  if `.env` sets the variable too, the shell's value still takes precedence, but every
#           `$NAME` in it is replaced: "costs $5 a month" becomes "costs  a month". It ends with 0.
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
cat >s.yaml <<'EOF'
edition: 3.0.0
name: shop
access: default
resources:
  website:
    component: ./component
    props: {region: cn-hangzhou, reason: "${env('REASON')}"}
EOF

# Print the shell's REASON in the resolved template.
# shellcheck disable=SC2016 # The dollar sign is intended.
reason() {
    env -i PATH="$PATH" HOME="$folder/home" serverless_devs_config_home="$folder/home" \
        AccountID=1000000000000001 AccessKeyID=made-up-id AccessKeySecret=made-up-secret \
        REASON='costs $5 a month' \
        "$folder/node_modules/.bin/s" preview -o json --silent </dev/null |
        node -p 'JSON.parse(fs.readFileSync(0)).resources.website.props.reason'
}

without=$(reason)
echo 'REASON=none' >.env
beside=$(reason)

echo "Serverless Devs $(node -p "require('$folder/node_modules/@serverless-devs/s/package.json').version")"
echo "the shell's value without a .env:           $without"
echo "the shell's value beside .env: REASON=none: $beside"

# shellcheck disable=SC2016
[ "$without" = 'costs $5 a month' ] ||
    { echo 'changed: the value is another one without a .env too' >&2; exit 1; }
[ "$beside" = 'costs  a month' ] ||
    { echo "changed: a line in .env does not alter the shell's value in this way any more" >&2; exit 1; }
