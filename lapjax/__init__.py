"""lapjax: landmark localisation with tiny networks that know how sure they are."""
