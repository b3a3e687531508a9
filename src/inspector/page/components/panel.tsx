import type { ComponentChildren } from 'preact';

interface Props {
  readonly title: string;
  readonly tools?: ComponentChildren;
  readonly children: ComponentChildren;
  /** Tables have their own margins. */
  readonly bare?: boolean;
  readonly testId?: string;
}

export function Panel({ title, tools, children, bare = false, testId }: Props) {
  return (
    <section class="panel" data-testid={testId}>
      <header>
        <h2>{title}</h2>
        <span class="spring" />
        {tools}
      </header>
      {bare ? children : <div class="body">{children}</div>}
    </section>
  );
}
