'use strict';
/* A stand-in for the components `fc3` and `ros` of Serverless Devs: the folder's name says which.
   Both keep what they get in one emulated account. Whether the platform would accept it is for
   checks.py and template.py, without Node.js. */

const { createHash } = require('crypto');
const fs = require('fs');
const path = require('path');
const { inAccount, option, list, refuse } = require('./account');

const COMPONENT = path.basename(__dirname);
const SKIPPED = '{"outcome": "skipped", "reason": "not_relevant"}';

/* ros: stacks. */

function rosDeploy(place, { props: { name, template, parameters } }) {
  place.stacks[name] = { template, parameters };
  return { stackId: `${place.name}-${name}` };
}

/* fc3: layers and functions. */

/* Asked before a deployed function is changed (its tags always differ), and before a removal.
   Without a terminal nobody answers: the process ends, with 0. */
function confirm(inputs, question, logger) {
  if (inputs.args.some((word) => ['-y', '--assume-yes'].includes(word))) return;
  logger.write(`${question} (Y/n)`);
  process.exit(0);
}

function requireLayers(place, { layers, runtime }) {
  for (const arn of list(layers)) {
    const [name, , version] = arn.split('/').slice(1);
    const found = list(place.layers[name]).find((one) => one.version === Number(version));
    if (!found) refuse(`LayerVersionNotFound: ${arn}`);
    if (!found.compatibleRuntime.includes(runtime)) refuse(`InvalidArgument: ${arn} is not for ${runtime}`);
  }
}

function functionDeploy(place, inputs, logger) {
  const { props, props: { functionName: name } } = inputs;
  if (place.functions[name]) confirm(inputs, 'Deploy it with local config?', logger);
  requireLayers(place, props);
  place.functions[name] = { ...props, role: String(props.role).toLowerCase() };
  return { region: place.name, functionName: name };
}

/* The same bytes as the latest version's are not published again, whatever the runtime. */
function layerPublish(place, inputs, logger) {
  const name = option(inputs, '--layer-name');
  const file = path.resolve(path.dirname(inputs.yaml.path), option(inputs, '--code'));
  const codeChecksum = createHash('sha256').update(fs.readFileSync(file)).digest('hex');
  const versions = place.layers[name] = list(place.layers[name]);
  const latest = versions[versions.length - 1];
  if (latest && latest.codeChecksum === codeChecksum) return latest;
  const version = latest ? latest.version + 1 : 1;
  const compatibleRuntime = option(inputs, '--compatible-runtime').split(',');
  versions.push({ layerName: name, version, codeChecksum, compatibleRuntime });
  const published = versions[versions.length - 1];
  logger.write(JSON.stringify(published));
  return published;
}

function layer(place, inputs, logger) {
  const [act] = inputs.args;
  const name = option(inputs, '--layer-name');
  if (act === 'publish') return layerPublish(place, inputs, logger);
  if (act === 'remove') place.layers[name] = [];
  return list(place.layers[name]);
}

/* Told as fc3 tells it, colours included. */
function invoke(place, inputs, logger) {
  made(place, inputs);
  const rule = (edge) => `\x1b[33m========= FC invoke Logs ${edge} =========\x1b[39m`;
  logger.write(`${rule('begin')}\n{"outcome": "encrypted"}\n${rule('end')}\n\nInvoke instanceId: c-emulated\n`
    + 'Code Checksum: 0\nQualifier: LATEST\nRequestId: emulated\n');
  logger.write(`Invoke Result:\n\x1b[32m${SKIPPED}\x1b[39m`);
}

/* What both components do with what they made: the account keeps it as `stacks` or `functions`. */
const KIND = COMPONENT === 'ros' ? 'stacks' : 'functions';
const nameIn = (props) => (COMPONENT === 'ros' ? props.name : props.functionName);

function made(place, { props }) {
  const name = nameIn(props);
  return place[KIND][name] || refuse(`NotFound: ${name} is not among the ${KIND} of ${place.name}`);
}

function plan(place, { props, resource }, logger) {
  logger.write(`${resource.name} ${place[KIND][nameIn(props)] ? 'update' : 'create'}`);
}

function remove(place, inputs, logger) {
  confirm(inputs, `Remove ${nameIn(inputs.props)}?`, logger);
  delete place[KIND][nameIn(inputs.props)];
}

const OWN = { ros: { deploy: rosDeploy }, fc3: { deploy: functionDeploy, invoke, layer } };
const COMMANDS = { plan, remove, info: made, ...OWN[COMPONENT] };

const LAYER_COMMANDS = { publish: { help: {} }, versions: { help: {} }, remove: { help: {} } };

class StandIn {
  constructor({ logger }) {
    this.commands = Object.fromEntries(Object.keys(COMMANDS).map((name) => [name, { help: {} }]));
    if (COMPONENT === 'fc3') Object.assign(this.commands.layer, { subCommands: LAYER_COMMANDS });
    for (const [name, act] of Object.entries(COMMANDS)) {
      this[name] = (inputs) => {
        // Into the component's log file, as the real ones do it.
        logger.debug(JSON.stringify(inputs.props));
        return inAccount(COMPONENT, name, inputs, (place) => act(place, inputs, logger));
      };
    }
    // The real ros has none, so `s verify` does not look at a stack.
    if (COMPONENT === 'fc3') this.getSchema = () => fs.readFileSync(path.join(__dirname, 'fc3.schema.json'), 'utf8');
  }
}

module.exports = StandIn;
module.exports.default = StandIn;
