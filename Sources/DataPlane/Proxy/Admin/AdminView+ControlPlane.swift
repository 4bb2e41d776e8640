import Base
import ConfigText
import ProxyConfig
import Reactor
import Telemetry
import XDSClient

/// What is shown of the tie to the control plane.
struct ControlPlaneView {
    /// As it was asked for: `HOST:PORT`.
    var authority: String
    var phase: ControlPlaneLink.Phase
    /// The stream is open, and the other side has said something.
    var isConnected: Bool
    var isSilent: Bool
    var lastFailure: String?
    var connects: UInt64
    var failures: UInt64
    var accepted: [DiscoveredType: UInt64]
    var rejected: [DiscoveredType: UInt64]
    /// What configuration waits for.
    var missing: [ResourceReference]
    var runsFromDisk: Bool
    /// Since the control plane last said that what runs is what it wants; nil where nothing runs.
    var unconfirmed: Nanoseconds?
    var statePath: String?
    var stateProblem: String?
    var reportProblem: String?
}

extension Supervisor {
    var controlPlaneView: ControlPlaneView? {
        guard let link else { return nil }
        return ControlPlaneView(
            authority: link.options.authority, phase: link.phase, isConnected: link.isConnected, isSilent: link.isSilent,
            lastFailure: link.lastFailure, connects: link.connects, failures: link.failures, accepted: link.accepted,
            rejected: link.rejected, missing: link.missing, runsFromDisk: runsFromDisk, unconfirmed: unconfirmedTime(now: loop.now),
            statePath: stateFile?.path, stateProblem: stateFile?.problem, reportProblem: link.reportProblem)
    }
}

extension ControlPlaneView {
    /// Why there is no configuration, or none from the control plane; nil where there is nothing to say.
    func trouble(isLive: Bool) -> String? {
        var sentences: [String] = []
        if !isLive { sentences.append("no configuration yet") }
        if isLive, runsFromDisk { sentences.append("the configuration is the last good one, from \(statePath ?? "disk")") }
        if !isConnected {
            sentences.append("no control plane at \(authority): \(lastFailure ?? (isSilent ? "it says nothing" : "connecting"))")
        } else if !isLive {
            let names = missing.prefix(5).map(\.description).joined(separator: ", ")
            sentences.append(names.isEmpty ? "applying it" : "the control plane at \(authority) has not sent: \(names)")
        }
        return !isLive || runsFromDisk ? sentences.joined(separator: "; ") : nil
    }

    func document(now: Instant) -> Document {
        .entries([
            "address": .text(authority),
            "state": .text(stateWords),
            "connected": .flag(isConnected),
            "peer": peer.map { .text($0) },
            "silent": isSilent ? .flag(true) : nil,
            "last_failure": lastFailure.map { .text($0) },
            "connection_attempts": .number(connects),
            "connection_failures": .number(failures),
            "config_from_disk": .flag(runsFromDisk),
            "config_unconfirmed": unconfirmed.map { .text(duration($0.duration)) },
            "waits_for": missing.isEmpty ? nil : .list(missing.prefix(100).map { .text($0.description) }),
            "state_file": statePath.map { .text($0) },
            "state_file_problem": stateProblem.map { .text($0) },
            "reports": .text(reportProblem ?? "accepted"),
            "updates": .map(
                DiscoveredType.allCases.map { type in
                    (type.name, .entries(["accepted": .number(accepted[type] ?? 0), "rejected": .number(rejected[type] ?? 0)]))
                }),
        ])
    }

    private var stateWords: String {
        switch phase {
        case .waiting: "waiting"
        case .resolving: "resolving"
        case .connecting: "connecting"
        case .connected: "connected"
        }
    }

    private var peer: String? {
        switch phase {
        case .connecting(let address), .connected(let address, _): "\(address)"
        case .waiting, .resolving: nil
        }
    }

    func add(to samples: inout ScrapeSamples) {
        samples.add(.xdsConnected, isConnected ? 1 : 0)
        samples.add(.xdsConnectionAttempts, connects)
        samples.add(.xdsConnectionFailures, failures)
        samples.add(.configFromDisk, runsFromDisk ? 1 : 0)
        if let unconfirmed { samples.add(.configUnconfirmed, unconfirmed.seconds) }
        for type in DiscoveredType.allCases {
            samples.add(.xdsUpdates, accepted[type] ?? 0, labels: [type.name, "accepted"])
            samples.add(.xdsUpdates, rejected[type] ?? 0, labels: [type.name, "rejected"])
        }
        samples.add(.cdsUpdateSuccess, accepted[.cluster] ?? 0)
        samples.add(.cdsUpdateRejected, rejected[.cluster] ?? 0)
        samples.add(.ldsUpdateSuccess, accepted[.listener] ?? 0)
        samples.add(.ldsUpdateRejected, rejected[.listener] ?? 0)
    }
}
