import { modelTrials } from "./model.trials.js"

modelTrials({
  PostgreSQL: { few: 350, many: 9_000, batch: 500 },
  MariaDB: { few: 350, many: 9_000, batch: 500 }
})
