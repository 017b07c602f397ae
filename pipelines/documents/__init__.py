"""Many structured questions over long documents: one encoder pass answers all of them (MAUD, Wang et al. 2023)."""
