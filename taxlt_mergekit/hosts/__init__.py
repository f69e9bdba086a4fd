"""Every change to mergekit and lm-eval, and the hook at interpreter start that makes it."""
