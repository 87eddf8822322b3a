module armistice.dev/bench/requests

go 1.26.0
