module telemetron.example/bench

go 1.21
