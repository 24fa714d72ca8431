"""adjuvant: postoperative risk and adjuvant-treatment proposals beside a hospital's EHR and PACS."""
