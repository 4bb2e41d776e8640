import Base
import ProxyConfig

extension Snapshot {
    /// Without what makes Envoy refuse a whole response though a part of it is at fault: a domain that stands twice in one route
    /// configuration (the first one counts, as with us), virtual hosts without a name or a domain, listeners without a chain, and an empty
    /// stat_prefix. And with the nearest that Envoy has for policies of ours.
    func viewOfEnvoy() -> Snapshot {
        var view = self
        view.listeners = listeners.filter { !$0.filterChains.isEmpty }
        for listener in view.listeners.indices {
            let name = view.listeners[listener].name
            for chain in view.listeners[listener].filterChains.indices {
                switch view.listeners[listener].filterChains[chain].filter {
                case .http(var manager) where manager.statPrefix.isEmpty:
                    manager.statPrefix = name
                    view.listeners[listener].filterChains[chain].filter = .http(manager)
                case .tcp(var proxy) where proxy.statPrefix.isEmpty:
                    proxy.statPrefix = name
                    view.listeners[listener].filterChains[chain].filter = .tcp(proxy)
                default: break
                }
            }
        }
        for index in view.routeConfigurations.indices {
            var seen: Set<String> = []
            view.routeConfigurations[index].virtualHosts = view.routeConfigurations[index].virtualHosts.enumerated().compactMap {
                place, host in
                var host = host
                host.domains = host.domains.filter { seen.insert($0.lowercased()).inserted }
                if host.name.isEmpty { host.name = "\(place)" }
                host.routes = host.routes.map { $0.viewOfEnvoy() }
                return host.domains.isEmpty ? nil : host
            }
        }
        view.clusters = clusters.map { $0.viewOfEnvoy() }
        return view
    }
}

extension Cluster {
    /// Envoy does not see a breaker for each endpoint, but it knows errors in a row.
    fileprivate func viewOfEnvoy() -> Cluster {
        guard let policy = resilience?.endpoint else { return self }
        var view = self
        let (breaker, errors) = (policy.breaker, policy.breaker.trip.consecutiveErrors)
        view.outlierDetection = errors.map {
            OutlierDetection(
                consecutive5xx: $0, interval: policy.interval, baseEjectionTime: breaker.open.base, maxEjectionTime: breaker.open.longest,
                maxEjectionPercent: policy.maxEjectionPercent, enforcingPercent: breaker.mode == .enforce ? 100 : 0)
        }
        return view
    }
}

extension Route {
    /// Envoy hedges where a try reaches its time, and refuses to fill a token bucket more often than every 50 ms.
    fileprivate func viewOfEnvoy() -> Route {
        var view = self
        if case .forward(var forward) = action, let hedging = forward.hedging, forward.retryPolicy != nil {
            forward.retryPolicy?.perTryTimeout = hedging.delay
            view.action = .forward(forward)
        }
        let least = Duration.milliseconds(50)
        if let limit = rateLimit, limit.interval < least {
            let fills = UInt32((least / limit.interval).rounded(.up))
            view.rateLimit?.interval = limit.interval * fills
            view.rateLimit?.requests = UInt32(clamping: UInt64(limit.requests) * UInt64(fills))
        }
        return view
    }
}
