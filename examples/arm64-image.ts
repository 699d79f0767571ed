import { PAGE, u32, u64 } from './firmware-bytes.ts'

/**
 * The smallest arm64 Image that a loader takes, for a firmware or a kernel: it waits for interrupts. The header has 64 bytes:
 *
 *   0   a branch to the code behind the header
 *   8   text_offset, image_size, flags: little-endian, 4 KiB pages
 *   56  "ARM\x64"
 */
const PAGES = 3
const HEADER = 64
const BRANCH_BEHIND_HEADER = 0x14000000 + HEADER / 4
const FLAGS = 0b0010
const WFI = 0xd503207f
const BRANCH_BACK = 0x17ffffff

export function arm64Image(): Buffer {
  const image = Buffer.alloc(PAGES * PAGE)
  u32(BRANCH_BEHIND_HEADER).copy(image, 0)
  u64(0, PAGES * PAGE, FLAGS).copy(image, 8)
  image.write('ARM\x64', 56, 'latin1')
  u32(WFI, BRANCH_BACK).copy(image, HEADER)
  image.write('a Realm of the story', 2 * PAGE, 'latin1')
  return image
}

if (import.meta.main) process.stdout.write(arm64Image())
