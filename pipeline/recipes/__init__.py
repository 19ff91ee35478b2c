"""From a recipe's YAML to its model: bases, variants, what was written where, schedules, the JSON Schema."""
