"""Names of SGLang that programs import from here."""
