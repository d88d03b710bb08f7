#!/usr/bin/env bash
# Expected: if MODE is empty in the shell, this is either a value or no value. So the template gets
#           the empty value, or the value of `.env`.
# Happens:  it gets neither. The empty variable hides the line in `.env`, then counts as missing,
#           and the template uses its default.
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
    props: {region: cn-hangzhou, mode: "${env('MODE', 'of the template')}"}
EOF
echo 'MODE="of .env"' >.env

# Print MODE in the resolved template, with these variables in the shell.
mode() {
    env -i PATH="$PATH" HOME="$folder/home" serverless_devs_config_home="$folder/home" \
        AccountID=1000000000000001 AccessKeyID=made-up-id AccessKeySecret=made-up-secret "$@" \
        "$folder/node_modules/.bin/s" preview -o json --silent </dev/null |
        node -p 'JSON.parse(fs.readFileSync(0)).resources.website.props.mode'
}

unset_one=$(mode)
empty=$(mode MODE=)

echo "Serverless Devs $(node -p "require('$folder/node_modules/@serverless-devs/s/package.json').version")"
echo "MODE is not set in the shell: it is that $unset_one"
echo "MODE is empty in the shell:   it is that $empty"

[ "$unset_one" = 'of .env' ] || { echo 'changed: .env does not give the value' >&2; exit 1; }
[ "$empty" = 'of the template' ] ||
    { echo 'changed: an empty variable does not lead to the default any more' >&2; exit 1; }
