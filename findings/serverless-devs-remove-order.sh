#!/usr/bin/env bash
# Expected: `s` deploys resources in the order of their declaration, and removes them in reverse
#           order.
# Happens:  `s remove` uses the order of `s deploy`: it removes a resource before those that depend
#           on it. It ends with 0.
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
  async deploy({ resource }) { console.log(`step: deploy ${resource.name}`); return {}; }
  async remove({ resource }) { console.log(`step: remove ${resource.name}`); }
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

s() {
    env -i PATH="$PATH" HOME="$folder/home" serverless_devs_config_home="$folder/home" \
        AccountID=1000000000000001 AccessKeyID=made-up-id AccessKeySecret=made-up-secret \
        "$folder/node_modules/.bin/s" "$@" </dev/null 2>&1
}
order() { sed -n "s/.*step: $1 //p" "$folder/$1" | paste -sd' ' -; }

s deploy -y --skip-actions >"$folder/deploy"
code=0
s remove -y >"$folder/remove" || code=$?

echo "Serverless Devs $(node -p "require('$folder/node_modules/@serverless-devs/s/package.json').version")"
echo "deployed in this order: $(order deploy)"
echo "removed in this order:  $(order remove), exit status $code"

[ "$(order deploy)" = 'database website' ] ||
    { echo 'changed: what is declared first is not deployed first' >&2; exit 1; }
[ "$(order remove)" = 'database website' ] ||
    { echo 'changed: what the others need is not removed before them any more' >&2; exit 1; }
[ "$code" = 0 ] || { echo 'changed: such a removal does not end with 0' >&2; exit 1; }
