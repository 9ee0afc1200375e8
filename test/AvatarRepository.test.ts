import { contract } from "./contract.js"
import { repositories } from "./layers.js"

repositories.forEach((repository) => contract(repository))
