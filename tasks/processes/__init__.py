"""Programs and functions of others: started beside us, listened to, limited, and ended."""
