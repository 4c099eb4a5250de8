// The sign that something is on its way.

export function Growing() {
  return <span class="pulse" aria-hidden="true" />;
}
