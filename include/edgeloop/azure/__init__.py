"""The only modules that talk to Azure; api-versions pinned as constants."""
