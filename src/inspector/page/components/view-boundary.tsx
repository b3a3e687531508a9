/** A view that fails says so in its place, and the others go on. */
import { Component, type ComponentChildren } from 'preact';

interface Props {
  readonly children: ComponentChildren;
}

export class ViewBoundary extends Component<Props, { readonly failure?: Error }> {
  static override getDerivedStateFromError(failure: Error) {
    return { failure };
  }

  override componentDidCatch(failure: Error): void {
    // The browser's console gets to know it, as if nobody had caught it.
    reportError(failure);
  }

  override render({ children }: Props) {
    const { failure } = this.state;
    if (failure === undefined) return children;
    return (
      <div class="notice" role="alert" data-testid="failed">
        <strong>This view cannot be shown.</strong>
        <br />
        {failure.message}
      </div>
    );
  }
}
