// ResilienceTests
