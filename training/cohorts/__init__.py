"""Each public data set as the PatientRecords the service uses, plus what happened to each patient."""
