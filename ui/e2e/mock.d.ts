// The types of the mock server, as far as the tests use it.
declare module "*/dev/mock.mjs" {
  export interface MockRun {
    name: string;
    steps: number;
    planned: number | null;
    /** What its loss falls to. */
    floor: number;
    going?: boolean;
    dropped?: number[];
  }
  export function startMock(options?: {
    port?: number;
    empty?: boolean;
    key?: string;
    busy?: boolean;
    runs?: MockRun[];
    pace?: number;
    ready?: Promise<void>;
  }): Promise<{
    url: string;
    state: { conversations: Map<string, unknown>; requests: string[]; runs: MockRun[] };
    stop(): Promise<void>;
  }>;
}
