/** What the repository looks at of the fiber that calls it. */
import * as SqlClient from "@effect/sql/SqlClient"
import * as Statement from "@effect/sql/Statement"
import * as Context from "effect/Context"
import * as DefaultServices from "effect/DefaultServices"
import type * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"

type AnyFiber = Fiber.RuntimeFiber<unknown, unknown>

const nativeTracer = Context.get(DefaultServices.liveServices, Tracer.Tracer)

/** Whether somebody looks at spans. Effect's own tracer makes them for nobody. */
export const isTraced = (fiber: AnyFiber): boolean =>
  Context.unsafeGet(fiber.currentDefaultServices, Tracer.Tracer) !== nativeTracer &&
  fiber.getFiberRef(FiberRef.currentTracerEnabled)

/** Whether somebody looks at each statement, or makes another one of it (`Statement.withTransformer`). */
export const isTransformed = (fiber: AnyFiber): boolean =>
  Option.isSome(fiber.getFiberRef(Statement.currentTransformer))

export const isInTransaction = (fiber: AnyFiber): boolean =>
  Option.isSome(Context.getOption(fiber.currentContext, SqlClient.TransactionConnection))
