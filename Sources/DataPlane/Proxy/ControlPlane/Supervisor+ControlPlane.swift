import Base
import ProxyConfig
import Reactor
import Resilience
import Telemetry
import Transport
import XDSClient
import XDSWire

/// What a managed proxy does with what its control plane says.
extension Supervisor: ManagedProcess {
    /// Runs the last good configuration of an earlier process, until the control plane says another.
    func runKept() {
        guard let stateFile else { return }
        do {
            let (configuration, writtenAt) = try stateFile.read()
            let version = SnapshotFile.version(of: configuration)
            do {
                try apply(configuration, version: version)
                runsFromDisk = true
                self.writtenAt = writtenAt
                log.warning("config", "running version \(version) from \(stateFile.path) until the control plane is there")
            } catch {
                log.error("config", "what was kept in \(stateFile.path) cannot run: \(error)")
            }
        } catch {
            if error.isAbsent {
                log.info("config", "nothing was kept yet in \(stateFile.path)")
            } else {
                log.error("config", "what was kept cannot be read: \(error.text)")
            }
        }
    }

    func take(_ offer: ADSClient.Offer) {
        // The workers close the old listeners while they apply: before that their addresses would look taken.
        guard snapshot == nil || isApplied else {
            waitingOffer = offer
            return
        }
        run(offer)
    }

    func takeWaitingOffer() {
        guard let offer = waitingOffer, isApplied else { return }
        waitingOffer = nil
        run(offer)
    }

    private func run(_ offer: ADSClient.Offer) {
        let version = SnapshotFile.version(of: offer.snapshot)
        // Nothing new is taken up while the proxy drains; what it has will do.
        if state == .draining || version == snapshot?.version {
            confirmed()
            link?.offerTaken()
            return
        }
        do {
            try apply(offer.snapshot, version: version)
            confirmed()
            link?.offerTaken()
        } catch {
            reject(version: version, error.description)
            link?.offerRefused(error.errors)
        }
    }

    /// What runs is what the control plane wants.
    private func confirmed() {
        if runsFromDisk { log.info("config", "the control plane is there; what runs comes from it now") }
        runsFromDisk = false
        forgetRejection()
    }

    func refused(_ refusal: ADSClient.Refusal) {
        let parts = refusal.versions.sorted { $0.key.rawValue < $1.key.rawValue }.map { "\($0.key.name) \($0.value)" }
        let version = parts.joined(separator: ", ")
        // What was offered and refused has been told under the snapshot's version.
        guard rejection?.reason != refusal.reason else { return }
        reject(version: version, refusal.reason)
    }

    /// Every worker runs the snapshot: it is good.
    func keepApplied() {
        guard let snapshot, let stateFile, !runsFromDisk else { return }
        stateFile.keep(snapshot.configuration)
    }

    /// How long ago the control plane last said that what runs is what it wants; nil where nothing runs.
    func unconfirmedTime(now: Instant) -> Nanoseconds? {
        guard snapshot != nil, let link else { return nil }
        if let confirmed = link.confirmed(now: now) { return now - confirmed }
        if let writtenAt { return Nanoseconds(count: max(0, Clock.realtime() - writtenAt)) }
        return now - started
    }

    func report() -> NodeReport {
        let now = loop.now
        let maker = NodeReportMaker(
            wallClock: Nanoseconds(count: Clock.realtime() - Clock.now().nanoseconds), now: now, registry: registry, snapshot: snapshot,
            certificates: tls.board.report)
        let events = unreportedEvents
        unreportedEvents = []
        return NodeReport(
            state: state.reported, startedAt: maker.time(started), reportedAt: maker.time(now),
            applied: appliedAt.flatMap { at in snapshot.map { NodeReport.Applied(version: $0.version, at: maker.time(at)) } },
            configurationAge: unconfirmedTime(now: now)?.milliseconds ?? 0,
            rejection: rejection.map {
                NodeReport.Rejection(version: String(cut: $0.version), reason: String(cut: $0.reason), at: maker.time($0.at))
            },
            isLastGoodFromDisk: runsFromDisk, clusters: maker.clusters(), outlierEvents: maker.events(events),
            certificates: maker.certificateReports(),
            identity: link?.identity?.held.map {
                IdentityReport(serial: $0.serial, notAfter: $0.notAfter * 1000, isServed: servesIdentity)
            }, process: maker.process())
    }

    /// Whether the inbound listeners that take TLS with the proxy's own certificate do so, and there are such.
    var opensIdentity: Bool {
        snapshot?.listeners.contains { $0.configuration.servesIdentity } == true
            && !closedListeners.contains { $0.configuration.servesIdentity }
    }
}

extension Listener {
    fileprivate var servesIdentity: Bool {
        direction == .inbound && filterChains.contains { $0.tls?.certificate == .sds(name: Secret.identityName) }
    }
}

extension ProxyState {
    fileprivate var reported: NodeReport.State {
        switch self {
        case .initializing: .initializing
        case .live: .live
        case .draining: .draining
        }
    }
}
