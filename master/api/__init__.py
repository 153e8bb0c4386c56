"""The operators' verbs: `verbs` lists them, one module per Ganeti noun answers them, `goals` says what to wait for."""
