import type { ComponentType } from 'preact';
import { Header } from './components/header.tsx';
import { Help } from './components/help.tsx';
import { ViewBoundary } from './components/view-boundary.tsx';
import type { ViewName } from './route.ts';
import type { InspectorStore } from './store/inspector-store.ts';
import { AddressSpaceView } from './views/address-space.tsx';
import { FindingsView } from './views/findings.tsx';
import { OverviewView } from './views/overview.tsx';
import { PageTablesView } from './views/page-tables.tsx';
import { RatesView } from './views/rates.tsx';
import { RegistersView } from './views/registers.tsx';
import { TraceView } from './views/trace.tsx';

export interface ViewProps {
  readonly store: InspectorStore;
  /** From the page's address. */
  readonly args: Readonly<Record<string, string>>;
}

const COMPONENTS: Readonly<Record<ViewName, ComponentType<ViewProps>>> = {
  overview: OverviewView,
  space: AddressSpaceView,
  rates: RatesView,
  findings: FindingsView,
  tables: PageTablesView,
  registers: RegistersView,
  trace: TraceView,
};

export function App({ store }: { readonly store: InspectorStore }) {
  const { view, args } = store.route.value;
  const View = COMPONENTS[view];
  return (
    <>
      <Header store={store} />
      <main data-testid={`view-${view}`}>
        <ViewBoundary key={view}>
          <View store={store} args={args} />
        </ViewBoundary>
      </main>
      <Help />
    </>
  );
}
