'use strict';
/* The emulated account: the JSON file that EMULATED_ACCOUNT names. */

const fs = require('fs');

const ROLE = 'ALIYUN::RAM::Role';

const list = (value) => [].concat(value === undefined ? [] : value);
const refuse = (message) => { throw new Error(message); };

/* Each command reads the account, acts on it and writes it back, also when it was refused. */
async function inAccount(component, method, inputs, act) {
  const file = process.env.EMULATED_ACCOUNT;
  const account = fs.existsSync(file) ? JSON.parse(fs.readFileSync(file, 'utf8'))
    : { calls: [], steps: [], regions: {} };
  const credential = await inputs.getCredential();
  const { region } = inputs.props;
  account.calls.push({
    component, method, resource: inputs.resource.name, args: inputs.args, region,
    account: credential.AccountID, key_ending: String(credential.AccessKeyID).slice(-4),
  });
  try {
    return act(new Place(account, option(inputs, '--region') || region, credential.AccountID));
  } finally {
    fs.writeFileSync(file, JSON.stringify(account, null, 1));
  }
}

function option(inputs, ...names) {
  const at = inputs.args.findIndex((word) => names.includes(word));
  return at < 0 ? undefined : inputs.args[at + 1];
}

/* One region of the account. */
class Place {
  constructor(account, region, id) {
    this.account = account;
    this.name = region;
    this.id = id;
    account.regions[region] = account.regions[region] || { stacks: {}, layers: {}, functions: {} };
    Object.assign(this, account.regions[region]);
  }

  step(what) { this.account.steps.push(`${this.name}: ${what}`); }

  /* The properties of every resource of this type that a stack has made; roles know no regions. */
  made(type, exceptBy) {
    const regions = type === ROLE ? Object.values(this.account.regions) : [this];
    return regions.flatMap((region) => Object.values(region.stacks))
      .filter((stack) => stack.stackId !== exceptBy)
      .flatMap((stack) => Object.values(stack.resources))
      .filter((resource) => resource.type === type).map((resource) => resource.properties);
  }

  role(arn, exceptBy) {
    return this.made(ROLE, exceptBy).find((role) => this.arnOf(role.RoleName) === arn);
  }

  /* RAM writes the names of roles in lower case into their ARNs. */
  arnOf(roleName) { return `acs:ram::${this.id}:role/${roleName.toLowerCase()}`; }
}

const quoted = (text) => text.replace(/[^\w]/g, '\\$&');
const asGlob = (text) => new RegExp(`^${text.split('*').map(quoted).join('.*')}$`, 'i');

/* A deny wins, whatever allows it. */
function may(role, action, resource) {
  const effects = list(role.Policies).flatMap((policy) => policy.PolicyDocument.Statement)
    .filter((one) => list(one.Action).some((glob) => asGlob(glob).test(action)))
    .filter((one) => list(one.Resource).some((glob) => asGlob(glob).test(resource)))
    .map((one) => one.Effect);
  return effects.includes('Allow') && !effects.includes('Deny');
}

module.exports = { inAccount, option, may, list, refuse, ROLE };
