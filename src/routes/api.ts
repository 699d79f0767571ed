import type {
  FastifyBaseLogger,
  FastifyInstance,
  FastifyReply,
  FastifyRequest,
  FastifyTypeProvider,
  RawReplyDefaultExpression,
  RawRequestDefaultExpression,
  RawServerDefault,
} from 'fastify'
import type { Static, TSchema } from 'typebox'
import type { Engine } from '../domain/engine.ts'
import type { Backend, Measurer } from '../hw/contract.ts'

/** What the routes stand on. */
export type Api = {
  readonly engine: Engine
  readonly backends: ReadonlyMap<string, Backend>
  readonly measurers: ReadonlyMap<string, Measurer>
  /** Seed of hosts that are made without one of their own. */
  readonly seed: string
  /** Parses JSON as strictly as a JSON body is parsed. */
  readonly parseJson: (text: Buffer) => unknown
}

/** Requests have the types of their schemas. Replies are data of the domain, and their schemas are checked by tests. */
export interface RequestTypes extends FastifyTypeProvider {
  readonly validator: this['schema'] extends TSchema ? Static<this['schema']> : unknown
  readonly serializer: unknown
}

export type Routes = FastifyInstance<
  RawServerDefault,
  RawRequestDefaultExpression,
  RawReplyDefaultExpression,
  FastifyBaseLogger,
  RequestTypes
>

/** What mutations need of a request. */
export type MutationRequest = Pick<FastifyRequest, 'method' | 'url' | 'body' | 'params' | 'headers'>
export type Reply = Pick<FastifyReply, 'code' | 'header' | 'type' | 'send' | 'serialize'>
