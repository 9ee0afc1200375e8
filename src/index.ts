/**
 * @since 0.1.0
 */
export * as Avatar from "./Avatar.js"

/**
 * @since 0.1.0
 */
export * as AvatarRepository from "./AvatarRepository.js"

/**
 * @since 0.1.0
 */
export * as Database from "./Database.js"

/**
 * @since 0.1.0
 */
export * as DatabaseError from "./DatabaseError.js"

/**
 * @since 0.1.0
 */
export * as SqlitePool from "./SqlitePool.js"
