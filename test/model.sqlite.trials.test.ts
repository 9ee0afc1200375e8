import { modelTrials } from "./model.trials.js"

modelTrials({
  "SQLite file": { few: 500, many: 14_000, batch: 500 },
  "SQLite in memory": { few: 400, many: 10_000, batch: 1_000 },
  "the stock client of SQLite": { few: 300, many: 6_000, batch: 1_000 },
  layerMemory: { few: 100, many: 2_000, batch: 1_000 }
})
