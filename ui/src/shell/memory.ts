// What this browser remembers: small strings in localStorage, which may be full, forbidden or absent.

type Name = "key" | "theme" | "model" | "sidebar" | "settings";

/** The value stored under `name`. */
export function remembered(name: Name): string | null {
  try {
    return localStorage.getItem(`autarky.${name}`);
  } catch {
    return null;
  }
}

/** Stores `value`, or removes it where it is null. */
export function remember(name: Name, value: string | null): void {
  try {
    if (value === null) localStorage.removeItem(`autarky.${name}`);
    else localStorage.setItem(`autarky.${name}`, value);
  } catch {
    // Then it holds until the page is closed.
  }
}
