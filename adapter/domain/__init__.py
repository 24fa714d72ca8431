"""The nouns of adjuvant: frozen values, standard library and numpy only."""
