'use strict';
/* A stand-in for the components `fc3` and `ros` of Serverless Devs: the folder's name says which.
   Both act on one emulated account, the JSON file that EMULATED_ACCOUNT names, and refuse what the
   platform would refuse. */

const { createHash } = require('crypto');
const { spawnSync } = require('child_process');
const fs = require('fs');
const path = require('path');
const { inAccount, option, may, list, refuse, ROLE } = require('./account');
const { stackOf } = require('./stack');

const COMPONENT = path.basename(__dirname);
const QUEUE = 'ALIYUN::MNS::Queue';
const PROJECT = 'ALIYUN::SLS::Project';
const LOGSTORE = 'ALIYUN::SLS::Logstore';
const GROUP = 'ALIYUN::ROS::StackGroup';
const INSTANCES = 'ALIYUN::ROS::StackInstances';
const RULE = 'ALIYUN::EventBridge::Rule';
// https://www.alibabacloud.com/help/en/functioncompute/fc/python/
const WITHOUT_PYTHON_312 = ['ap-southeast-1', 'ap-southeast-3', 'ap-southeast-5', 'cn-wulanchabu'];

const SKIPPED = '{"outcome": "skipped", "reason": "not_relevant"}';
const LAYER_ARN = /^acs:fc:([^:]+):([^:]+):layers\/([^/]+)\/versions\/(\d+)$/;
const DESTINATION_ARN = /^acs:mns:([^:]+):([^:]+):\/queues\/([^/]+)\/messages$/;

/* ros: stacks. */

function rosDeploy(place, { props }) {
  const stackId = `${place.name}-${props.name}`;
  const known = { types: TYPES, roleArn: (name) => place.arnOf(name) };
  const { resources, outputs } = stackOf(props, known);
  const before = (place.stacks[props.name] || { resources: {} }).resources;
  requireUnchanged(before, resources);
  const changed = Object.fromEntries(Object.entries(resources)
    .filter(([name, one]) => JSON.stringify(one) !== JSON.stringify(before[name])));
  requireOrganization(place, resources, changed);
  requireRules(place, changed);
  for (const { type, properties } of Object.values(resources)) {
    const taken = type === ROLE && place.role(place.arnOf(properties.RoleName), stackId);
    if (taken) refuse(`EntityAlreadyExists.Role: ${properties.RoleName}`);
  }
  const { template, parameters } = props;
  place.stacks[props.name] = { stackId, resources, template, parameters };
  place.step(`stack ${props.name}`);
  for (const type of [INSTANCES, GROUP, RULE]) {
    const [had, has] = [before, resources].map((all) => ofType(all, type).length > 0);
    if (had !== has) place.step(`${has ? 'create' : 'remove'} ${type}`);
  }
  return { stackId, ...outputs };
}

const ofType = (resources, type) => Object.values(resources)
  .filter((one) => one.type === type).map((one) => one.properties);

/* No property of these two can be updated.
   https://www.alibabacloud.com/help/en/ros/developer-reference/aliyun-ros-stackgroup */
function requireUnchanged(before, after) {
  for (const [name, { type, properties }] of Object.entries(after)) {
    const deployed = before[name];
    if (![GROUP, INSTANCES].includes(type) || !deployed) continue;
    const changed = Object.keys(properties)
      .find((key) => JSON.stringify(properties[key]) !== JSON.stringify(deployed.properties[key]));
    if (changed) refuse(`${name}: the property ${changed} of ${type} cannot be updated`);
  }
}

/* Only a manager of the organization has stack groups for it; its roles may name only roles that
   exist, and a group deploys into up to 20 folders and 20 regions at once. What is not changed is
   not looked at. */
function requireOrganization(place, resources, changed) {
  const groups = ofType(resources, GROUP);
  const roles = ofType(resources, ROLE).map((role) => place.arnOf(role.RoleName));
  for (const { PermissionModel, AutoDeployment, TemplateBody, Parameters } of ofType(changed, GROUP)) {
    if (PermissionModel !== 'SERVICE_MANAGED' || !AutoDeployment.Enabled) refuse('StackGroup: not for folders');
    const stray = Object.keys(Parameters).find((name) => !(name in TemplateBody.Parameters));
    if (stray) refuse(`StackGroup: the parameter ${stray} is not declared`);
    const missing = Parameters.Guards.split(',').find((arn) => !roles.includes(arn) && !place.role(arn));
    if (missing) refuse(`EntityNotExist.Role: ${missing}`);
  }
  for (const { StackGroupName, DeploymentTargets, RegionIds } of ofType(resources, INSTANCES)) {
    if (!groups.some((group) => group.StackGroupName === StackGroupName)) refuse(`StackGroupNotFound: ${StackGroupName}`);
    const { RdFolderIds } = DeploymentTargets;
    const fits = [RdFolderIds, RegionIds].every((all) => all.length > 0 && all.length <= 20);
    if (!fits || !RdFolderIds.every((id) => /^(fd|r)-/.test(id))) refuse('StackInstances: up to 20 folders and regions');
  }
}

/* A rule is on a bus that exists, and calls a function that exists. */
function requireRules(place, resources) {
  for (const { EventBusName, Targets } of ofType(resources, RULE)) {
    const buses = (process.env.EMULATED_BUSES || '').split(',');
    if (!['default', ...buses].includes(EventBusName)) refuse(`EventBusNotExist: ${EventBusName}`);
    for (const { Type, Endpoint } of Targets) {
      const name = Endpoint.split(':functions/')[1];
      if (Type !== 'acs.fc.function' || !place.functions[name]) refuse(`TargetNotExist: ${Endpoint}`);
    }
  }
}

/* fc3: layers and functions. */

function requireLayers(place, { layers, runtime }) {
  for (const arn of list(layers)) {
    const [, region, id, name, version] = LAYER_ARN.exec(arn) || [];
    const found = region === place.name && id === place.id
      && list(place.layers[name]).find((one) => one.version === Number(version));
    if (!found) refuse(`LayerVersionNotFound: ${arn}`);
    if (found.compatibleRuntime.includes(runtime)) continue;
    refuse(`InvalidArgument: ${arn} is not for ${runtime}`);
  }
}

function requireCode(props, inputs) {
  const folder = path.resolve(path.dirname(inputs.yaml.path), props.code);
  const hooks = Object.values(props.instanceLifecycleConfig || {}).map((hook) => hook.handler);
  for (const handler of [props.handler, ...hooks]) {
    const file = path.join(folder, `${handler.split('.')[0]}.py`);
    if (!fs.existsSync(file)) refuse(`InvalidArgument: ${handler}: there is no ${file}`);
  }
}

/* After the triggers, as fc3 does it: until then nothing catches what fails. */
function requireDestination(place, { asyncInvokeConfig, role }) {
  for (const { destination } of Object.values((asyncInvokeConfig || {}).destinationConfig || {})) {
    const [, region, id, queue] = DESTINATION_ARN.exec(destination) || [];
    const there = region === place.name && id === place.id
      && place.made(QUEUE).some((one) => one.QueueName === queue);
    if (!there) refuse(`InvalidArgument: the destination ${destination} does not exist`);
    if (may(place.role(role), 'mns:SendMessage', destination)) continue;
    refuse(`AccessDenied: ${role} lacks mns:SendMessage on ${destination}`);
  }
}

function requireLogs(place, { logConfig }) {
  if (typeof logConfig !== 'object') return;
  const { project, logstore } = logConfig;
  const stores = place.made(LOGSTORE).filter((one) => one.ProjectName === project);
  const projects = place.made(PROJECT).map((one) => one.Name);
  if (!projects.includes(project)) refuse(`ProjectNotExist: ${project}`);
  if (!stores.some((one) => one.LogstoreName === logstore)) refuse(`LogStoreNotExist: ${logstore}`);
}

/* Asked before a deployed function is changed (its tags always differ), and before a removal.
   Without a terminal nobody answers: the process ends, with 0. */
function confirm(inputs, question, logger) {
  if (inputs.args.some((word) => ['-y', '--assume-yes'].includes(word))) return;
  logger.write(`${question} (Y/n)`);
  process.exit(0);
}

function functionDeploy(place, inputs, logger) {
  if (place.functions[inputs.props.functionName]) confirm(inputs, 'Deploy it with local config?', logger);
  const props = { ...inputs.props, role: String(inputs.props.role).toLowerCase() };
  const { functionName: name, runtime, role } = props;
  const tooNew = runtime === 'python3.12' && WITHOUT_PYTHON_312.includes(place.name);
  if (tooNew) refuse(`InvalidArgument: ${place.name} has no ${runtime}`);
  if (!place.role(role)) refuse(`EntityNotExist.Role: ${role}`);
  requireLayers(place, props);
  requireCode(props, inputs);
  requireLogs(place, props);
  place.functions[name] = props;
  place.step(`function ${name}`);
  for (const trigger of list(props.triggers)) place.step(`trigger ${name}/${trigger.triggerName}`);
  requireDestination(place, props);
  if (props.asyncInvokeConfig) place.step(`asyncInvokeConfig ${name}`);
  if (props.concurrencyConfig) place.step(`concurrency ${name}`);
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
  versions.push({
    layerName: name, version, codeChecksum,
    compatibleRuntime: option(inputs, '--compatible-runtime').split(','),
    layerVersionArn: `acs:fc:${place.name}:${place.id}:layers/${name}/versions/${version}`,
  });
  place.step(`layer ${name} ${version}`);
  const published = versions[versions.length - 1];
  logger.write(JSON.stringify(published));
  return published;
}

function layerRemove(place, inputs) {
  const name = option(inputs, '--layer-name');
  const only = Number(option(inputs, '--version-id'));
  place.layers[name] = list(place.layers[name]).filter((one) => only && one.version !== only);
  place.step(`remove layer ${name}`);
}

const layerVersions = (place, inputs) => list(place.layers[option(inputs, '--layer-name')]);

function layer(place, inputs, logger) {
  const act = { publish: layerPublish, versions: layerVersions, remove: layerRemove }[inputs.args[0]];
  return act(place, inputs, logger);
}

/* What EMULATED_FUNCTION, a command as a JSON list, makes of the event on its standard input. */
function ran(place, inputs, props) {
  const file = option(inputs, '-f', '--event-file');
  const input = file ? fs.readFileSync(path.resolve(file)) : option(inputs, '-e', '--event') || '';
  const { PATH, HOME, EMULATED_FUNCTION } = process.env;
  if (!EMULATED_FUNCTION) return { stdout: SKIPPED, stderr: '', status: 0 };
  const [command, ...args] = JSON.parse(EMULATED_FUNCTION);
  const env = {
    PATH, HOME, ...props.environmentVariables,
    FC_FUNCTION_NAME: props.functionName, FC_REGION: place.name, FC_ACCOUNT_ID: place.id,
  };
  return spawnSync(command, args, { input, encoding: 'utf8', env });
}

/* Told as fc3 tells it, colours included. */
function invoke(place, inputs, logger) {
  const { stdout, stderr, status, error } = ran(place, inputs, made(place, inputs));
  // A function need not read its event.
  if (error && error.code !== 'EPIPE') throw error;
  const rule = (edge) => `\x1b[33m========= FC invoke Logs ${edge} =========\x1b[39m`;
  const [kind, colour] = status ? ['Error Type: UnhandledInvocationError\n\n', 31] : ['', 32];
  logger.write(`${rule('begin')}\n${stderr}\n${rule('end')}\n\nInvoke instanceId: c-emulated\n`
    + 'Code Checksum: 0\nQualifier: LATEST\nRequestId: emulated\n');
  logger.write(`${kind}Invoke Result:\n\x1b[${colour}m${stdout.trimEnd()}\x1b[39m`);
}

/* What both components do with what they made: the account keeps it as `stacks` or `functions`. */
const KIND = COMPONENT === 'ros' ? 'stacks' : 'functions';
const nameIn = (props) => (COMPONENT === 'ros' ? props.name : props.functionName);

function made(place, { props }) {
  const name = nameIn(props);
  return place[KIND][name] || refuse(`NotFound: ${name} is not among the ${KIND} of ${place.name}`);
}

/* fc3 never finds a deployed function unchanged: it compares the keys of its tags by their case. */
function plan(place, { props, resource }, logger) {
  const act = place[KIND][nameIn(props)] ? 'update' : 'create';
  logger.write(`${[resource.name, act, ...list(props.layers)].join(' ')}`);
  if (act === 'update') for (const tag of list(props.tags)) logger.write(`- Key: ${tag.key}\n+ key: ${tag.key}`);
}

function remove(place, inputs, logger) {
  const { props } = inputs;
  confirm(inputs, `Remove ${nameIn(props)}?`, logger);
  delete place[KIND][nameIn(props)];
  place.step(`remove ${nameIn(props)}`);
}

const read = (name) => fs.readFileSync(path.join(__dirname, name), 'utf8');
const TYPES = JSON.parse(read('ros_keys.json')).keys.template.Resources['*'].Properties['by Type'];
const OWN = { ros: { deploy: rosDeploy }, fc3: { deploy: functionDeploy, invoke, layer } };
const COMMANDS = { plan, remove, info: made, ...OWN[COMPONENT] };

const LAYER_COMMANDS = { publish: { help: {} }, versions: { help: {} }, remove: { help: {} } };

class StandIn {
  constructor({ logger }) {
    this.commands = Object.fromEntries(Object.keys(COMMANDS).map((name) => [name, { help: {} }]));
    if (COMPONENT === 'fc3') Object.assign(this.commands.layer, { subCommands: LAYER_COMMANDS });
    for (const [name, act] of Object.entries(COMMANDS)) {
      const actOn = (inputs) => (place) => act(place, inputs, logger);
      this[name] = (inputs) => {
        // Into the component's log file, as the real ones do it.
        logger.debug(JSON.stringify(inputs.props));
        return inAccount(COMPONENT, name, inputs, actOn(inputs));
      };
    }
    // The real ros has none, so `s verify` does not look at a stack.
    if (COMPONENT === 'fc3') this.getSchema = () => read('fc3.schema.json');
  }
}

module.exports = StandIn;
module.exports.default = StandIn;
