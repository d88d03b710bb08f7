#!/usr/bin/env bash
# Expected: `-o json` changes how a result is printed; a command that fails still fails.
# Happens:  with `-o json`, `s` does not print a component's error, calls the resource "completed",
#           deploys the resource that depends on it, and ends with 0.
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
cat >component/index.js <<'EOF'
module.exports.default = class {
  async deploy({ resource }) {
    console.log(`step: deploy ${resource.name}`);
    if (resource.name === 'database') throw new Error('the quota is used up');
    return {};
  }
};
EOF
cat >s.yaml <<'EOF'
edition: 3.0.0
name: shop
access: default
resources:
  database:
    component: ./component
    props: {region: cn-hangzhou, url: db.example}
  website:
    component: ./component
    props: {region: cn-hangzhou, database: "${resources.database.props.url}"}
EOF

deploy() {
    env -i PATH="$PATH" HOME="$folder/home" serverless_devs_config_home="$folder/home" \
        AccountID=1000000000000001 AccessKeyID=made-up-id AccessKeySecret=made-up-secret \
        "$folder/node_modules/.bin/s" deploy -y --skip-actions "$@" </dev/null 2>&1
}
seen() { grep -q "$1" "$folder/$2" && echo yes || echo no; }

plain=0 json=0
deploy >"$folder/plain" || plain=$?
deploy -o json >"$folder/json" || json=$?

echo "Serverless Devs $(node -p "require('$folder/node_modules/@serverless-devs/s/package.json').version")"
for way in plain json; do
    echo "$way: exit status ${!way}, error printed: $(seen quota "$way")," \
        "website deployed nevertheless: $(seen 'step: deploy website' "$way")"
done
echo 'what it printed with -o json:'
sed '/WARN/d; s/^/    /' "$folder/json"

[ "$plain $(seen quota plain) $(seen 'deploy website' plain)" = '101 yes no' ] ||
    { echo 'changed: a failure without -o json is reported in another way' >&2; exit 1; }
[ "$json $(seen quota json) $(seen 'deploy website' json)" = '0 no yes' ] ||
    { echo 'changed: a failure with -o json is not hidden any more' >&2; exit 1; }
