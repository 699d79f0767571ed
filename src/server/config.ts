import Type, { type Static } from 'typebox'
import { Compile } from 'typebox/compile'

const Environment = Type.Object(
  {
    GMEMD_HOST: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 255,
        pattern: '^[A-Za-z0-9.:_-]+$',
        'x-expected': 'a host name or address',
      }),
    ),
    GMEMD_PORT: Type.Optional(
      Type.String({
        pattern: '^(?:0|[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$',
        'x-expected': 'a port number from 0 (any free port) to 65535',
      }),
    ),
    GMEMD_SOCKET: Type.Optional(
      Type.String({ minLength: 1, maxLength: 107, 'x-expected': 'a path of 1 to 107 characters for the Unix socket' }),
    ),
    GMEMD_DATA: Type.Optional(
      Type.String({ minLength: 1, maxLength: 4096, 'x-expected': 'a directory, or ":memory:" to keep nothing' }),
    ),
    GMEMD_LOG_LEVEL: Type.Optional(
      Type.Enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'], {
        'x-expected': 'one of trace, debug, info, warn, error, fatal, silent',
      }),
    ),
    GMEMD_SEED: Type.Optional(
      Type.String({ minLength: 1, maxLength: 128, 'x-expected': 'a text of 1 to 128 characters' }),
    ),
  },
  { additionalProperties: false },
)

type Environment = Static<typeof Environment>
type Name = keyof Environment

export type LogLevel = NonNullable<Environment['GMEMD_LOG_LEVEL']>
export type ListenAddress =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string }

export type Config = {
  readonly listen: ListenAddress
  /** Directory of the database, or undefined to keep nothing. */
  readonly dataDirectory: string | undefined
  readonly logLevel: LogLevel
  /** Seed of everything that is random in the default hosts. */
  readonly seed: string
}

export type ConfigResult =
  | { readonly ok: true; readonly config: Config }
  | { readonly ok: false; readonly problems: readonly string[] }

/** Process exit code for a configuration that cannot be used (EX_CONFIG of sysexits.h). */
export const EX_CONFIG = 78

const validator = Compile(Environment)
const names = Object.keys(Environment.properties) as Name[]

/** Reads the configuration from GMEMD_* variables and names everything wrong with them, one sentence each. */
export function readConfig(env: Readonly<Record<string, string | undefined>>): ConfigResult {
  const given = Object.fromEntries(
    Object.entries(env).filter(([name, value]) => name.startsWith('GMEMD_') && value !== undefined),
  )
  const problems = Object.keys(given)
    .filter((name) => !names.some((known) => known === name))
    .map((name) => `${name} is not a variable that gmemd knows; it knows ${names.join(', ')}.`)
  for (const name of names) {
    const value = given[name]
    if (value === undefined || Compile(Environment.properties[name]).Check(value)) continue
    problems.push(`${name} must be ${expectationOf(Environment.properties[name])}, not ${JSON.stringify(value)}.`)
  }
  if (given.GMEMD_SOCKET !== undefined) {
    for (const name of ['GMEMD_HOST', 'GMEMD_PORT'] as const) {
      if (given[name] !== undefined) problems.push(`GMEMD_SOCKET and ${name} exclude each other; set only one of them.`)
    }
  }
  if (problems.length > 0 || !validator.Check(given)) return { ok: false, problems }
  return { ok: true, config: configOf(given) }
}

const expectationOf = (schema: object): unknown => ('x-expected' in schema ? schema['x-expected'] : 'something else')

function configOf(env: Environment): Config {
  const { GMEMD_SOCKET, GMEMD_HOST = '127.0.0.1', GMEMD_PORT = '7070', GMEMD_DATA = './data' } = env
  return {
    listen:
      GMEMD_SOCKET === undefined
        ? { kind: 'tcp', host: GMEMD_HOST, port: Number(GMEMD_PORT) }
        : { kind: 'unix', path: GMEMD_SOCKET },
    dataDirectory: GMEMD_DATA === ':memory:' ? undefined : GMEMD_DATA,
    logLevel: env.GMEMD_LOG_LEVEL ?? 'info',
    seed: env.GMEMD_SEED ?? 'gmemd',
  }
}
