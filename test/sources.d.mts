export declare const sources: () => string
