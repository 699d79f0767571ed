import { type Cast, guestReads, type Moments, makeVm, PAGES, WORK } from './cast.ts'
import { hex } from './client.ts'
import { chapter, check, same, say } from './narrator.ts'
import type { Accounting, Exit, Page, PageStates, Resumed, Run, Runs } from './replies.ts'

/** Chapters that are the same for every technology with a measured launch. */

const window = `gpa=${hex(WORK)}&length=${hex(PAGES * 4096)}`

/** The 16 pages by their runs, and one of them with all that is known of it. */
export async function showPages({ gmemd, vm }: Cast, gpa: number): Promise<{ runs: readonly Run[]; page: Page }> {
  const { items } = await gmemd.get<Runs>(`/v1/vms/${vm}/page-states?${window}`)
  for (const { gpa: first, length, owner, visibility, backing, hardware } of items) {
    const both = backing.private && backing.shared ? ', both backings' : ''
    const pages = String(length / 4096).padStart(3)
    say(`${first} ${pages} pages: ${owner}, ${visibility}${both}, ${JSON.stringify(hardware)}`)
  }
  const pages = items.reduce((sum, { length }) => sum + length / 4096, 0)
  same('the runs cover the 16 pages', pages, PAGES)
  const page = await gmemd.get<Page>(`/v1/vms/${vm}/pages/${hex(gpa)}`)
  say(`${page.gpa}: slot ${page.slot}, ${page.memfile.id} at ${hex(page.memfile.offset)}`)
  say(`private page ${page.privateHpa}, shared page ${page.sharedHpa}`)
  say(`last touched by ${page.history.map(({ seq, type }) => `${seq} ${type}`).join(', ')}`)
  check('its history is there', page.history.length > 0, page.history)
  return { runs: items, page }
}

export async function countMemory({ gmemd, vm }: Cast): Promise<void> {
  chapter('Where memory goes')
  const { private: own, shared, both } = await gmemd.get<Accounting>(`/v1/vms/${vm}/accounting`)
  say(`private ${own}, shared ${shared}, allocated twice ${both} bytes`)
  same('the page that was shared for a while is paid for twice', both, 4096)
}

export async function convertByHand({ gmemd, technology, host }: Cast): Promise<void> {
  chapter('A VM whose VMM we are ourselves')
  const cast = await makeVm(gmemd, technology, host, { conversion: 'manual' })
  const { vm, memfile } = cast
  await gmemd.post(`/v1/vms/${vm}/launch/finish`)
  const entries = [{ gpa: hex(WORK), pages: 2, operation: 'private' }]
  const asked = await gmemd.post<PageStates>(`/v1/vms/${vm}/page-states`, { entries, accept: true })
  same('the guest asks, and nothing is done', asked.completed, 0)
  const { items } = await gmemd.get<{ items: Exit[] }>(`/v1/vms/${vm}/exits`)
  const [exit] = items
  same('its exit waits for the VMM', exit?.id, asked.waiting?.id)
  say(`${exit?.id}: ${exit?.reason}, ${exit?.length} bytes at ${exit?.gpa} to be private`)
  await gmemd.post(`/v1/memfiles/${memfile}/fallocate`, { offset: WORK, length: 2 * 4096 })
  const resumed = await gmemd.post<Resumed>(`/v1/vms/${vm}/exits/${exit?.id}/resume`)
  same('fallocate, resume, and the request completes', resumed.result.completed, 1)
  same('and the guest can use the pages', (await guestReads(cast, WORK, true)).outcome, 'ok')
  await gmemd.delete(`/v1/vms/${vm}`)
}

export async function travelInTime({ gmemd, vm }: Cast, moments: Moments): Promise<void> {
  chapter('The page map as it was')
  const then = async (at: string): Promise<string | undefined> => {
    const { items } = await gmemd.get<Runs>(`/v1/vms/${vm}/page-states?gpa=${hex(WORK)}&length=4096${at}`)
    return items[0]?.visibility
  }
  same(`at ${moments.private} the page was private`, await then(`&at=${moments.private}`), 'private')
  same(`at ${moments.shared} it was shared`, await then(`&at=${moments.shared}`), 'shared')
  same('and now it is private again', await then(''), 'private')
}
