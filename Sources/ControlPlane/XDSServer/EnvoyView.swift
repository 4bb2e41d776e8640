import Base
import ProxyConfig

extension Snapshot {
    /// Without what makes Envoy refuse a whole response though a part of it is at fault: a domain that stands twice in one route
    /// configuration (the first one counts, as with us), virtual hosts without a name or a domain, listeners without a chain, and an empty
    /// stat_prefix.
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
                return host.domains.isEmpty ? nil : host
            }
        }
        return view
    }
}
