'use strict';
/* What Resource Orchestration Service makes of an inline template, as far as ours goes.
   https://www.alibabacloud.com/help/en/ros/user-guide/functions */

const { list, refuse, ROLE } = require('./account');

const invalid = (message) => refuse(`StackValidationFailed: ${message}`);

/* The resources and outputs of a stack; `types` are those that exist, with the keys of each. */
function stackOf({ template, parameters = {} }, { types, roleArn }) {
  const scope = { template, roleArn, parameters: accepted(template.Parameters || {}, parameters) };
  const resources = {};
  for (const [name, resource] of Object.entries(template.Resources)) {
    const type = resource.Type;
    if (!(type in types)) invalid(`the resource type ${type} is unknown`);
    const unknown = list(resource.DependsOn).find((other) => !(other in template.Resources));
    if (unknown) invalid(`${name} depends on ${unknown}, which is not there`);
    if (resource.Condition && !condition(resource.Condition, scope)) continue;
    const properties = evaluated(resource.Properties || {}, scope);
    requireKnown(properties, types[type], name);
    resources[name] = { type, properties };
  }
  const outputs = evaluated(template.Outputs || {}, scope);
  const values = Object.entries(outputs).map(([key, { Value }]) => [key, Value]);
  return { resources, outputs: Object.fromEntries(values) };
}

/* Every property is one of its type's; `known` is a tree of ros_keys.json. */
function requireKnown(value, known, place) {
  if (known === 'any key' || value === null || typeof value !== 'object') return;
  for (const [key, inner] of Object.entries(value)) {
    if (!Array.isArray(value) && !(key in known)) invalid(`${place}: the property ${key} is unknown`);
    requireKnown(inner, Array.isArray(value) ? known : known[key], `${place}.${key}`);
  }
}

function accepted(declared, given) {
  const stray = Object.keys(given).find((name) => !(name in declared));
  if (stray) invalid(`the parameter ${stray} is not declared`);
  return Object.fromEntries(Object.entries(declared).map(([name, { Default, AllowedValues }]) => {
    const value = name in given ? given[name] : Default;
    if (value === undefined) invalid(`the parameter ${name} has no value`);
    if (AllowedValues && !AllowedValues.includes(value)) invalid(`${name} may not be ${value}`);
    return [name, value];
  }));
}

function condition(name, scope) {
  const { Conditions = {} } = scope.template;
  if (!(name in Conditions)) invalid(`no condition ${name}`);
  return evaluated(Conditions[name], scope);
}

/* A condition stands for itself by its name. */
const decided = (part, scope) => (
  typeof part === 'string' ? condition(part, scope) : evaluated(part, scope));

const FUNCTIONS = {
  Ref: (name, scope) => referred(name, scope),
  'Fn::GetAtt': ([name, attribute], scope) => attributeOf(name, attribute, scope),
  'Fn::If': ([name, yes, no], scope) => evaluated(condition(name, scope) ? yes : no, scope),
  'Fn::Equals': ([one, other], scope) => evaluated(one, scope) === evaluated(other, scope),
  'Fn::Not': (value, scope) => !decided(value, scope),
  'Fn::And': (parts, scope) => parts.every((part) => decided(part, scope)),
  'Fn::Or': (parts, scope) => parts.some((part) => decided(part, scope)),
  'Fn::Join': ([glue, parts], scope) => evaluated(parts, scope).join(glue),
};

/* A property that is ALIYUN::NoValue is left out. */
function evaluated(value, scope) {
  const isThere = (inner) => inner !== undefined;
  if (Array.isArray(value)) return value.map((inner) => evaluated(inner, scope)).filter(isThere);
  if (value === null || typeof value !== 'object') return value;
  const [name] = Object.keys(value);
  if (name in FUNCTIONS) return FUNCTIONS[name](value[name], scope);
  if (/^Fn::/.test(name)) refuse(`${name} is not emulated`);
  // The template of a stack group is evaluated in the accounts that get it.
  const entries = Object.entries(value)
    .map(([key, inner]) => [key, key === 'TemplateBody' ? inner : evaluated(inner, scope)]);
  return Object.fromEntries(entries.filter(([, inner]) => isThere(inner)));
}

/* What a reference to a resource gives is documented for few types: use Fn::GetAtt. */
function referred(name, { parameters }) {
  if (name === 'ALIYUN::NoValue') return undefined;
  return name in parameters ? parameters[name] : invalid(`no parameter ${name}`);
}

function attributeOf(name, attribute, scope) {
  const { Type, Properties } = scope.template.Resources[name] || invalid(`no resource ${name}`);
  const properties = evaluated(Properties || {}, scope);
  if (Type === ROLE && attribute === 'Arn') return scope.roleArn(properties.RoleName);
  return attribute in properties ? properties[attribute] : invalid(`${name} has no ${attribute}`);
}

module.exports = { stackOf };
