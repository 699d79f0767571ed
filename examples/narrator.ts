/** Something is not as the story tells it. */
export class NotAsTold extends Error {}

let chapters = 0
let claims = 0

export function chapter(title: string): void {
  chapters++
  console.log(`\n${chapters}. ${title}`)
}

export function say(text: string): void {
  for (const line of text.split('\n')) console.log(`   ${line}`)
}

/** A claim of the story. What was seen instead is shown when it does not hold. */
export function check(claim: string, holds: boolean, seen?: unknown): void {
  if (!holds) throw new NotAsTold(`Not so: ${claim}. Seen: ${JSON.stringify(seen)}`)
  claims++
  console.log(`   ✓ ${claim}`)
}

/** The claim that something is exactly this. */
export const same = (claim: string, seen: unknown, told: unknown): void => check(claim, seen === told, seen)

export function end(): void {
  console.log(`\nThe end: ${claims} claims, all as told.`)
}
