// node client.mjs PLAN RESULT: the client of the TypeScript SDK, for a server at the other end of stdin and stdout.
//
// The transport only frames messages on two streams, so the one the SDK has for servers serves a client as well. Who
// starts this process holds both pipes and sees every byte.
import { readFileSync, writeFileSync } from "node:fs";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioServerTransport } from "@modelcontextprotocol/sdk/server/stdio.js";

const [plan, result] = process.argv.slice(2);
const client = new Client({ name: "field", version: "1" });
const outcomes = [];

async function attempt(what, call) {
  try {
    outcomes.push({ what, result: await call() });
  } catch (error) {
    outcomes.push({ what, error: { code: error.code ?? null, message: String(error.message) } });
  }
}

await attempt("initialize", async () => {
  await client.connect(new StdioServerTransport());
  return { server: client.getServerVersion(), capabilities: client.getServerCapabilities() };
});
const can = client.getServerCapabilities() ?? {};
await attempt("ping", () => client.ping());
if (can.tools) await attempt("tools/list", () => client.listTools());
if (can.prompts) await attempt("prompts/list", () => client.listPrompts());
if (can.resources) {
  await attempt("resources/list", () => client.listResources());
  await attempt("resources/templates/list", () => client.listResourceTemplates());
}
for (const { method, params } of JSON.parse(readFileSync(plan, "utf-8"))) {
  await attempt(method, () => client[method](params));
}
writeFileSync(result, JSON.stringify(outcomes));
process.exit(0);
