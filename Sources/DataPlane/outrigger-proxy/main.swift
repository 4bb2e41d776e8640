print("outrigger-proxy")
