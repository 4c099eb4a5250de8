// The types of the mock server, as far as the tests use it.
declare module "*/dev/mock.mjs" {
  export function startMock(options?: {
    port?: number;
    empty?: boolean;
    key?: string;
    busy?: boolean;
    pace?: number;
    ready?: Promise<void>;
  }): Promise<{
    url: string;
    state: { conversations: Map<string, unknown>; requests: string[] };
    stop(): Promise<void>;
  }>;
}
