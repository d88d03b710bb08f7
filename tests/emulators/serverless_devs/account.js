'use strict';
/* The emulated account: the JSON file that EMULATED_ACCOUNT names. */

const fs = require('fs');

const list = (value) => [].concat(value === undefined ? [] : value);
const refuse = (message) => { throw new Error(message); };

/* Each command reads the account, acts on a region of it and writes it back, also when it was
   refused. */
async function inAccount(component, method, inputs, act) {
  const file = process.env.EMULATED_ACCOUNT;
  const account = fs.existsSync(file) ? JSON.parse(fs.readFileSync(file, 'utf8'))
    : { calls: [], regions: {} };
  const credential = await inputs.getCredential();
  const { region } = inputs.props;
  account.calls.push({
    component, method, resource: inputs.resource.name, args: inputs.args, region,
    account: credential.AccountID, key_ending: String(credential.AccessKeyID).slice(-4),
  });
  const name = option(inputs, '--region') || region;
  account.regions[name] = account.regions[name] || { stacks: {}, layers: {}, functions: {} };
  try {
    return act({ name, id: credential.AccountID, ...account.regions[name] });
  } finally {
    fs.writeFileSync(file, JSON.stringify(account, null, 1));
  }
}

function option(inputs, ...names) {
  const at = inputs.args.findIndex((word) => names.includes(word));
  return at < 0 ? undefined : inputs.args[at + 1];
}

module.exports = { inAccount, option, list, refuse };
