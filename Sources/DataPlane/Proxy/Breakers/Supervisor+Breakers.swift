import ProxyConfig
import Resilience
import Telemetry

/// What operators do to breakers of this process.
extension Supervisor {
    func force(_ override: BreakerOverride) {
        log.warning("breaker", "\(override.target.words): \(override.action.phase.name), by hand")
        overrides.force(override)
        // A service without a policy has no breaker: now it needs one.
        if override.target.endpoint == nil { makeMissingBreakers() }
    }

    /// Gives breakers to those services that an operator wants to force, and that have none by their policy.
    private func makeMissingBreakers() {
        let forced = overrides.services
        guard let snapshot, snapshot.clusters.contains(where: { $0.breaker == nil && forced.contains($0.name) }) else { return }
        do {
            try apply(snapshot.configuration, version: snapshot.version)
        } catch {
            log.error("breaker", "the service cannot get a breaker now: \(error)")
        }
    }

    func release(_ target: BreakerOverride.Target) {
        log.warning("breaker", "\(target.words): released by hand")
        overrides.release(target)
    }
}

extension BreakerOverride.Target {
    var words: String { "\(cluster)\(endpoint.map { " \($0)" } ?? " as a service")" }
}
