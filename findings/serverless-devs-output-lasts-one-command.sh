#!/usr/bin/env bash
# Expected: later commands know the output of a deployed resource
#           (`${resources.database.output.url}`): the same template serves to deploy one resource
#           and to remove all.
# Happens:  only the command that deployed the resource knows its output. After a successful
#           deployment, `s website deploy` ends with 1 and "not found". `s remove` removes the
#           database, then has no output of it, and leaves the website.
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
  async deploy({ resource }) { console.log(`step: deploy ${resource.name}`); return { url: 'db.example' }; }
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
    props: {region: cn-hangzhou}
  website:
    component: ./component
    props: {region: cn-hangzhou, database: "${resources.database.output.url}"}
EOF

# Print the steps of the component, the error and the exit status.
outcome() {
    local code=0
    env -i PATH="$PATH" HOME="$folder/home" serverless_devs_config_home="$folder/home" \
        AccountID=1000000000000001 AccessKeyID=made-up-id AccessKeySecret=made-up-secret \
        "$folder/node_modules/.bin/s" "$@" </dev/null >"$folder/printed" 2>&1 || code=$?
    { sed -n 's/.*step: //p' "$folder/printed"; grep -m 1 -o 'output.url} not found' "$folder/printed" || true
        echo "$code"; } | paste -sd, -
}

all=$(outcome deploy -y --skip-actions)
one=$(outcome website deploy -y --skip-actions)
remove=$(outcome remove -y)

echo "Serverless Devs $(node -p "require('$folder/node_modules/@serverless-devs/s/package.json').version")"
echo "s deploy:         $all"
echo "s website deploy: $one"
echo "s remove:         $remove"

[ "$all" = 'deploy database,deploy website,0' ] ||
    { echo 'changed: the first deployment of all goes another way' >&2; exit 1; }
[ "$one" = 'output.url} not found,1' ] ||
    { echo 'changed: a resource that refers to an output can be deployed by itself' >&2; exit 1; }
[ "$remove" = 'remove database,output.url} not found,1' ] ||
    { echo 'changed: the resource that refers to an output is not left any more' >&2; exit 1; }
