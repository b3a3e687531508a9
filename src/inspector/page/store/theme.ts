/** Light or dark, as the system says or as chosen here. */
import { signal } from '@preact/signals';

export const THEMES = ['auto', 'light', 'dark'] as const;
export type Theme = (typeof THEMES)[number];

const KEY = 'viommu.theme';

export const theme = signal<Theme>('auto');
/** Raised when colours change, for those who paint by themselves. */
export const colours = signal(0);

export function startTheme(): void {
  const stored = localStorage.getItem(KEY);
  chooseTheme(THEMES.find(one => one === stored) ?? 'auto');
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
    colours.value++;
  });
}

export function chooseTheme(next: Theme): void {
  theme.value = next;
  localStorage.setItem(KEY, next);
  if (next === 'auto') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  colours.value++;
}

export function nextTheme(): void {
  chooseTheme(THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length]!);
}

/** Of a custom property, e.g. `--ink`. */
export function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
