"""A person looks at samples, imports and exports them (`hyperloom data`, `import`)."""
