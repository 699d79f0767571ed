// Runs the benchmarks, or those whose names contain one of the arguments, and prints one table:
//   npm run bench
//   npm run bench -- http store
import { conversionBench } from './conversions.ts'
import { type Figure, show } from './figure.ts'
import { httpBench } from './http.ts'
import { pageMapBench } from './page-map.ts'
import { storeBench } from './store.ts'

const BENCHES: Readonly<Record<string, () => readonly Figure[] | Promise<readonly Figure[]>>> = {
  'page-map': pageMapBench,
  conversions: conversionBench,
  store: storeBench,
  http: httpBench,
}

const wanted = process.argv.slice(2)
const chosen = Object.entries(BENCHES).filter(
  ([name]) => wanted.length === 0 || wanted.some((part) => name.includes(part)),
)
if (chosen.length === 0) {
  console.error(`No benchmark is named like that; there are ${Object.keys(BENCHES).join(', ')}.`)
  process.exit(1)
}
const figures: Figure[] = []
for (const [name, bench] of chosen) {
  console.error(`running ${name}…`)
  figures.push(...(await bench()))
}
show(figures)
