export type Figure = { readonly name: string; readonly value: number; readonly unit: string }

export function show(figures: readonly Figure[]): void {
  for (const { name, value, unit } of figures) {
    const shown = value.toLocaleString('en', { maximumFractionDigits: value < 100 ? 2 : 0 })
    console.log(`${name.padEnd(64)}${shown.padStart(14)} ${unit}`)
  }
}
